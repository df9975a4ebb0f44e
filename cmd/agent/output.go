package main

import (
	"errors"
	"io"
	"syscall"
)

// output remembers that standard output could not be written: what prints need not look, and yet no cut output ends with 0.
// A reader that has left is no fault: it has read what it wanted, and an agent behind `| head -1` goes on.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(text []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.Writer.Write(text)
	if err != nil && o.err == nil && !errors.Is(err, syscall.EPIPE) {
		o.err = err
	}
	return n, err
}

// verdict is err, or that the output was cut.
func (o *output) verdict(err error) error {
	var coded *codeError
	if o.err == nil || errors.As(err, &coded) || (err != nil && !errors.Is(err, o.err)) {
		return err
	}
	return fail(exitFailed, "", "cannot write the output: %w", o.err)
}
