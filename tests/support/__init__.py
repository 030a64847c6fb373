"""What tests share: daemons, workers, models, peers and faults to try with."""
