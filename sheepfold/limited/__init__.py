"""Work on files of strangers, in processes with little memory, little time and no secrets."""
