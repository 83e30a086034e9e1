"""One folder a system, each readable without leaving it except downwards into `zoo.components`."""
