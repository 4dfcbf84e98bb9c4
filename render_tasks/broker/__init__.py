"""The worker's side of Redis: what comes from there is bounded, checked and made anew before Celery sees it."""
