package optimizer

import (
	"cmp"

	"github.com/polargo/polar/internal/nearest"
	"github.com/polargo/polar/param"
)

// Info is one known optimizer: what it is, what it takes and which settings it reads.
type Info struct {
	// Name is what New and the command line know it by; Summary says in one line what it does.
	Name, Summary string
	// Pairs reports that it takes low-rank pairs, not dense weights only.
	Pairs bool
	// Beta2, Epsilon, Nesterov and MaxPreconditioned report that it reads that setting of Config.
	Beta2, Epsilon, Nesterov, MaxPreconditioned bool
	// Protects reports that it leaves the directions of Protect as they are.
	Protects bool
	// FallbackOptional reports that embeddings, heads and vectors follow its own rule when Fallback.LearningRate is 0.
	FallbackOptional bool
	// AdapterRate is the usual learning rate for pairs on a pretrained base, FullRate for training all weights.
	AdapterRate, FullRate float64
}

// entry is one optimizer in the registry.
type entry struct {
	name, summary string
	// msign marks the family whose step has a norm of its own that Scale multiplies. Whether clipping applies to a variable is
	// its rule's to say (Rule.Directional).
	msign bool
	// uses says which further settings of Config the optimizer reads; the others are refused when they are set.
	uses     uses
	defaults Config
	// rates are the usual learning rates where they are not the default one.
	rates rates
	// route gives the rule of a variable; found is false when its role has none here.
	route func(cfg Config, spec param.Spec) (a assignment, found bool)
	// untagged gives the rule for a variable that was never tagged; nil refuses it.
	untagged func(cfg Config) assignment
}

// uses are settings of Config that some optimizers read and others do not.
type uses struct {
	beta2, epsilon, nesterov, loraPlus, rebalance, maxPreconditioned bool
	// beta2Sum allows Beta2 1: a sum instead of an average.
	beta2Sum bool
	// noFallback allows Fallback.LearningRate 0: embeddings, heads and vectors then follow the main rule.
	noFallback bool
}

// rates are the usual learning rates for pairs on a pretrained base and for training all weights; 0 is the default rate.
type rates struct{ adapter, full float64 }

// registry lists the optimizers in the order in which they are shown. A function, so that entries may refer to it.
func registry() []*entry {
	return []*entry{
		&loraMuonEntry, &muonEntry, &factorMuonEntry, &adamwEntry, &sgdEntry, &shampooEntry, &soapEntry,
		&spectronEntry, &loraRITEEntry, &loraRITECoreEntry, &rprecAdamWEntry, &poloraEntry, &sMuonEntry, &loraMuonOGDEntry,
	}
}

// Known lists the optimizers that New accepts.
func Known() []Info {
	var infos []Info
	for _, e := range registry() {
		infos = append(infos, e.info())
	}
	return infos
}

// Names lists the optimizers for which keep reports true, all of them for nil, in the order of Known.
func Names(keep func(Info) bool) []string {
	var names []string
	for _, info := range Known() {
		if keep == nil || keep(info) {
			names = append(names, info.Name)
		}
	}
	return names
}

// Describe returns the optimizer called name, or an error that lists the known ones.
func Describe(name string) (Info, error) {
	e, err := find(name)
	if err != nil {
		return Info{}, err
	}
	return e.info(), nil
}

func (e *entry) info() Info {
	to, pairs := e.route(e.defaults, param.Spec{Role: param.Pair, Side: param.SideA})
	_, protects := to.rule.(placed)
	return Info{
		Name: e.name, Summary: e.summary, Pairs: pairs, Protects: protects,
		Beta2: e.uses.beta2, Epsilon: e.uses.epsilon, Nesterov: e.uses.nesterov, MaxPreconditioned: e.uses.maxPreconditioned,
		FallbackOptional: e.uses.noFallback,
		AdapterRate:      cmp.Or(e.rates.adapter, e.defaults.LearningRate), FullRate: cmp.Or(e.rates.full, e.defaults.LearningRate),
	}
}

// directional reports whether a variable of the given role is moved by a rule that uses only its gradient's direction.
func (e *entry) directional(cfg Config, role param.Role) bool {
	to, found := e.route(cfg, param.Spec{Role: role, Side: param.SideA})
	return found && to.rule.Directional()
}

// find returns the entry called name, or an error that lists the known names and the nearest.
func find(name string) (*entry, error) {
	for _, e := range registry() {
		if e.name == name {
			return e, nil
		}
	}
	return nil, nearest.Unknown("optimizer", name, Names(nil))
}
