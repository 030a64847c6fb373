"""`hotseat demo`: the story, its run and its report."""
