"""What families derive from, a file a modality; the facts of the modalities themselves are in `zoo.data.signals`."""
