"""What sheepfold stands on, by version and hash: locks, their audit, the list for a release, the images by digest."""
