package adapter

import (
	"fmt"
	"strings"

	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/internal/nearest"
	"github.com/polargo/polar/param"
)

// Export returns the trained pairs against the original base model: s·A Bᵀ where the start was zero, otherwise
// s·[A, A0]·[B, -B0]ᵀ of rank 2r, which is the change of the weight since the start. It returns an error for weights
// from scratch, which have no base, and for values that are not finite.
func (s *Set) Export() ([]peft.Pair, error) {
	if err := s.usable(); err != nil {
		return nil, fmt.Errorf("export the adapter: %w", err)
	}
	if s.scratch {
		return nil, fmt.Errorf("export the adapter: the low-rank weights were trained from scratch and have no base; save the model instead")
	}
	out := make([]peft.Pair, len(s.pairs))
	for i, p := range s.pairs {
		f, rank, err := s.change(p)
		if err != nil {
			return nil, fmt.Errorf("export the adapter: %w", err)
		}
		out[i] = peft.Pair{Layer: exportName(p.layer), FanOut: p.layer.FanOut, FanIn: p.layer.FanIn, Rank: rank, Scale: p.scale, A: f.a, B: f.b}
	}
	return out, nil
}

// Adapter returns Export as an adapter of the base model of that name or path, ready for peft.Save: with the module
// names that match exactly the adapted layers.
func (s *Set) Adapter(base string) (*peft.Adapter, error) {
	pairs, err := s.Export()
	if err != nil {
		return nil, err
	}
	a := &peft.Adapter{Pairs: pairs, Base: base, Targets: s.targets()}
	for _, p := range s.pairs {
		a.FanInFanOut = a.FanInFanOut || p.layer.Conv1D
	}
	return a, nil
}

// gpt2Prefix is the name of GPT-2's body in the model with a head, which the original checkpoint's tensors leave out
// and PEFT's keys need.
const gpt2Prefix = "transformer."

func exportName(layer param.Layer) string {
	if layer.Conv1D && strings.HasPrefix(layer.Name, "h.") {
		return gpt2Prefix + layer.Name
	}
	return layer.Name
}

// targets returns the shortest dotted suffixes that match the adapted layers and no other linear layer of the model.
func (s *Set) targets() []string {
	var out []string
	seen := make(map[string]bool)
	for _, p := range s.pairs {
		fields := strings.Split(p.layer.Name, ".")
		suffix := exportName(p.layer)
		for parts := 1; parts < len(fields); parts++ {
			candidate := strings.Join(fields[len(fields)-parts:], ".")
			if s.onlyAdapted(candidate) {
				suffix = candidate
				break
			}
		}
		if !seen[suffix] {
			seen[suffix] = true
			out = append(out, suffix)
		}
	}
	return out
}

// onlyAdapted reports whether every linear layer whose name ends with suffix is adapted.
func (s *Set) onlyAdapted(suffix string) bool {
	for _, name := range s.all {
		if _, adapted := s.index[name]; !adapted && hasSuffix(name, suffix) {
			return false
		}
	}
	return true
}

// FromPEFT puts a loaded adapter on the model: its factors become the set's, trainable and tagged, on a base that is
// left as it is and frozen. Use the set to generate, to Merge, or to continue training. All layers that the model does
// not have, that the adapter's target_modules name but that have no tensors, and that differ in shape are one error.
func FromPEFT(store *mlmodel.Store, layers []param.Layer, a *peft.Adapter) (*Set, error) {
	byLayer, err := fit(layers, a)
	if err != nil {
		return nil, err
	}
	s := newSet(store, layers)
	for i, layer := range layers {
		if p, found := byLayer[i]; found {
			if err := s.freeze(layer); err != nil {
				return nil, err
			}
			s.add(pair{layer: layer, rank: p.Rank, scale: p.Scale})
		}
	}
	if err := s.checkUnused(); err != nil {
		return nil, err
	}
	for i, layer := range layers {
		if p, found := byLayer[i]; found {
			f := factors{a: p.A, b: p.B}
			if err := s.createFactors(s.pairs[s.index[layer.Name]], f, f); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// fit returns the adapter's pairs by layer index, or all that does not fit the model.
func fit(layers []param.Layer, a *peft.Adapter) (map[int]peft.Pair, error) {
	if err := a.Check(); err != nil {
		return nil, fmt.Errorf("apply the adapter: %w", err)
	}
	if err := checkNames(layers); err != nil {
		return nil, err
	}
	byLayer, problems := assign(layers, a)
	for i, layer := range layers {
		p, found := byLayer[i]
		switch {
		case !found && a.Matches(exportName(layer)):
			problems = append(problems, fmt.Sprintf("layer %s is among its target_modules but has no tensors", layer.Name))
		case found && (p.FanOut != layer.FanOut || p.FanIn != layer.FanIn):
			problems = append(problems, fmt.Sprintf("layer %s: lora_B·lora_A is %d x %d, the model's weight is %d x %d", layer.Name, p.FanOut, p.FanIn, layer.FanOut, layer.FanIn))
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("the adapter does not fit this model: %s", strings.Join(problems, "; "))
	}
	return byLayer, nil
}

// assign finds the layer of every pair, by its name or, where the body's prefix differs, by the one layer's name that
// ends with it or that it ends with. It returns the pairs by layer index and what did not fit.
func assign(layers []param.Layer, a *peft.Adapter) (map[int]peft.Pair, []string) {
	out := make(map[int]peft.Pair)
	var problems []string
	for _, p := range a.Pairs {
		at := findLayer(layers, p.Layer)
		if _, taken := out[at]; at >= 0 && !taken {
			out[at] = p
			continue
		}
		names := make([]string, len(layers))
		for i, layer := range layers {
			names[i] = layer.Name
		}
		problems = append(problems, fmt.Sprintf("the model has no layer %s (nearest: %s)", p.Layer, nearest.Words(p.Layer, names, 1)[0]))
	}
	return out, problems
}

func findLayer(layers []param.Layer, name string) int {
	at := -1
	for i, layer := range layers {
		if layer.Name == name {
			return i
		}
		if hasSuffix(layer.Name, name) || hasSuffix(name, layer.Name) {
			if at >= 0 {
				return -1
			}
			at = i
		}
	}
	return at
}
