"""Photos by themselves: what one tells without another, and a folder of such scenes."""
