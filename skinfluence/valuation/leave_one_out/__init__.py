"""Every row left out in turn, and the net trained again."""
