"""Training, decoding and analysis of CTC speech recognisers with dense, Switch and Omni-router encoders."""

__version__ = "0.1.0"
