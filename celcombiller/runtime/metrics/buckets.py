"""The limits of the histograms' buckets."""

LATENCY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BATCH_REQUESTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
