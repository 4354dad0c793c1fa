"""COCO's data and metrics: annotations, detections, AP and how sure a difference of AP is."""
