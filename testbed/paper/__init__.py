"""The experiments of the FedSZ paper (arXiv:2312.13461), each one command: `testbed paper NAME`."""
