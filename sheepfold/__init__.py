"""What coordinator, worker and lab share; it imports none of them."""
