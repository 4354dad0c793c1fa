"""What ``coco`` and ``detect`` share: detections on either side, here or on a cluster."""
