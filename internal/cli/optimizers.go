package cli

import (
	"fmt"

	"github.com/polargo/polar/optimizer"
)

// optimizersCommand is 'polar optimizers'.
type optimizersCommand struct{}

// Run lists the optimizers, one a line.
func (*optimizersCommand) Run(p *program) error {
	width := 0
	for _, info := range optimizer.Known() {
		width = max(width, len(info.Name))
	}
	for _, info := range optimizer.Known() {
		if _, err := fmt.Fprintf(p.stdout, "%-*s  %s\n", width, info.Name, info.Summary); err != nil {
			return err
		}
	}
	return nil
}
