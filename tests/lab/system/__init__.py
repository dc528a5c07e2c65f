"""The system in the lab: control planes and nodes as real processes, a module for each part of the product."""
