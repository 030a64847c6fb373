"""`hotseat run`: a turn or a conversation, as it is typed and shown."""
