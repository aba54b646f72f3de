// Package graphx is the one edge where the panics of graph building become errors.
package graphx

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Bug is a runtime panic (nil map, index out of range) caught at the edge: a defect of the program, not of its input.
type Bug struct {
	Cause error
	Stack []byte
}

// Error names the defect in one line.
func (b *Bug) Error() string { return fmt.Sprintf("internal error (please report it): %v", b.Cause) }

// Unwrap returns the runtime error.
func (b *Bug) Unwrap() error { return b.Cause }

// Try runs fn and returns the error it returned or panicked with. A runtime panic comes back as a *Bug; a panic with
// anything that is not an error is raised again.
func Try(fn func() error) (err error) {
	defer func() {
		switch cause := recover().(type) {
		case nil:
		case runtime.Error:
			err = &Bug{Cause: cause, Stack: debug.Stack()}
		case error:
			err = cause
		default:
			panic(cause)
		}
	}()
	return fn()
}

// Try1 is Try for a function with one result.
func Try1[T any](fn func() (T, error)) (value T, err error) {
	err = Try(func() error {
		var inner error
		value, inner = fn()
		return inner
	})
	return value, err
}

// IsBug reports whether err came from a defect of the program.
func IsBug(err error) bool {
	var bug *Bug
	return errors.As(err, &bug)
}
