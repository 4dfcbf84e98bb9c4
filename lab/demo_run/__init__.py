"""One whole farm on this machine: started, watched, shown, ended."""
