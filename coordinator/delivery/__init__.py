"""What nodes bring: claims, pictures, and the logs of what failed."""
