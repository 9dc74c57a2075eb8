"""What may be asked of a running agent, whoever asks: requests as types, one door that answers them, documents as answers.

The control socket, the network interfaces and the command line use nothing else. ``requests`` is light enough for a command that
must answer at once; what carries requests out stands in one file per noun behind ``door``.
"""
