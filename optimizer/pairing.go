package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/param"
)

// pairing is the rule of pairs that are looked at together whatever rules update them: it moves nothing.
type pairing struct{}

func (pairing) Name() string                                     { return "pairs" }
func (pairing) Layout() Layout                                   { return Paired }
func (pairing) State([][]int) []Slot                             { return nil }
func (pairing) Directional() bool                                { return false }
func (pairing) Flops([][]int) int64                              { return 0 }
func (pairing) Update(_ *Step, values, _ []*Node) (same []*Node) { return values }

// pairGroups gathers the low-rank pairs among the variables into groups of one shape and scale, in the paired layout, in order
// of the groups' names. A factor without its partner is an error.
func pairGroups(store mlmodel.StoreProvider, vars []*mlmodel.Variable) ([]*Group, error) {
	pairs := map[string][]routed{}
	for _, v := range vars {
		spec, tagged, err := param.Lookup(store, v)
		if err != nil {
			return nil, err
		}
		if tagged && spec.Role == param.Pair {
			pairs[spec.Layer] = append(pairs[spec.Layer], routed{v, spec, onMain(pairing{})})
		}
	}
	gathered := map[groupKey][]member{}
	if err := gatherPairs(gathered, pairs); err != nil {
		return nil, err
	}
	return sorted(gathered), nil
}
