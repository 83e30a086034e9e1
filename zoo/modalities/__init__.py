"""The front doors: what is special about speech, images, video and actions."""
