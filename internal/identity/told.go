package identity

// Told returns a refusal that another host of the stack has told.
func Told(reason Reason, text string) *Error { return &Error{reason, text, nil} }
