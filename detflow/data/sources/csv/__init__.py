"""The dialect of scripts such as `xml_to_csv.py`: a row for each object."""
