"""Exchange: how the sites' answers reach the coordinator, one file for each way of sending."""
