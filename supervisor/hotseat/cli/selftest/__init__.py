"""`hotseat selftest`: entries run one by one in processes of their own, one file, one table."""
