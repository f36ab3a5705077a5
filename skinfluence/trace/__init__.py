"""What a training leaves behind, and the recorder that notes it."""
