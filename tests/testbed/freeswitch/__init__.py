"""What stands for FreeSWITCH, which cannot be had everywhere: its event socket, byte for byte as its source has it."""
