"""Detections of many images: computed in shards, kept, matched and drawn."""
