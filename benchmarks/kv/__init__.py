"""What contexts cost: on disk, to restore, to share."""
