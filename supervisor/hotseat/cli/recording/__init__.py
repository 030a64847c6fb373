"""`hotseat record`, `report` and `top`: samples of a daemon or a file, and what is drawn."""
