"""The dialect of TFRecord files that other tools wrote: images and objects in one file."""
