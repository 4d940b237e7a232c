package process

// Now is the time in the unit of ID.Start; 0: it is not known here.
func Now() uint64 { return 0 }

// Find returns no process: nothing here tells what one was started with.
func Find(variable, output string, since uint64) []ID { return nil }
