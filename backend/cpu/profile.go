package cpu

import (
	"io"

	"github.com/polargo/polar/backend/cpu/program"
)

// Profile measures the steps of whatever the backend executes until stop is called, which writes the most expensive ones, at most
// lines of them, to w. Only one profile is taken at a time: a second call ends the first.
func (b *Backend) Profile() (stop func(w io.Writer, lines int)) {
	p := &program.Profile{}
	b.engine.SetProfile(p)
	return func(w io.Writer, lines int) {
		b.engine.SetProfile(nil)
		p.Write(w, lines)
	}
}
