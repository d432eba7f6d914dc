"""The fuse policy: all sensors and language in, flow-matching action chunks out."""
