package optimizer

import (
	"fmt"
	"strings"

	"github.com/polargo/polar/internal/nearest"
	"github.com/polargo/polar/param"
)

// Info is one known optimizer: its name and what it does in one line.
type Info struct{ Name, Summary string }

// entry is one optimizer in the registry.
type entry struct {
	name, summary string
	// msign marks the family that uses only the direction of the momentum: clipping is off for it, Scale applies.
	msign bool
	// uses says which further settings of Config the optimizer reads; the others are refused when they are set.
	uses     uses
	defaults Config
	// route gives the rule of a variable; found is false when its role has none here.
	route func(cfg Config, spec param.Spec) (a assignment, found bool)
	// untagged gives the rule for a variable that was never tagged; nil refuses it.
	untagged func(cfg Config) assignment
}

// uses are settings of Config that some optimizers read and others do not.
type uses struct {
	beta2, epsilon, nesterov, loraPlus, rebalance bool
	// noFallback allows Fallback.LearningRate 0: embeddings, heads and vectors then follow the main rule.
	noFallback bool
}

// registry lists the optimizers in the order in which they are shown. A function, so that entries may refer to it.
func registry() []*entry {
	return []*entry{&loraMuonEntry, &muonEntry, &factorMuonEntry, &adamwEntry, &sgdEntry}
}

// Known lists the optimizers that New accepts.
func Known() []Info {
	var infos []Info
	for _, e := range registry() {
		infos = append(infos, Info{e.name, e.summary})
	}
	return infos
}

// find returns the entry called name, or an error that lists the known names and the nearest.
func find(name string) (*entry, error) {
	var names []string
	for _, e := range registry() {
		if e.name == name {
			return e, nil
		}
		names = append(names, e.name)
	}
	hint := ""
	if word := nearest.Word(strings.ToLower(name), names); word != "" {
		hint = fmt.Sprintf("; did you mean %q?", word)
	}
	return nil, fmt.Errorf("unknown optimizer %q; known: %s%s", name, strings.Join(names, ", "), hint)
}
