package identity

// Told returns the *Error that another host of the stack has sent.
func Told(reason Reason, text string) *Error { return &Error{reason, text, nil} }
