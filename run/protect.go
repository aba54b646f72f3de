package run

import (
	"fmt"
	"strings"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/adapter"
	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/optimizer"
)

// protect reads the directions of earlier adapters and has the optimizer leave them as they are. They are part of every
// checkpoint, from which a resumed run takes them: the adapters may be gone by then.
func (s *Session) protect() error {
	trained := map[string]bool{}
	for _, layer := range s.adapted() {
		trained[layer.Name] = true
	}
	for _, dir := range s.Config.Protect {
		past, err := peft.Load(dir)
		if err != nil {
			return fmt.Errorf("protect: %w", err)
		}
		layers, err := adapter.DirectionsOf(s.decoder.Layers(), past)
		if err != nil {
			return fmt.Errorf("protect %s: %w", dir, err)
		}
		protected := 0
		var names []string
		for _, d := range layers {
			names = append(names, d.Layer)
			if !trained[d.Layer] {
				continue // it stays as it is
			}
			u, v := tensors.FromFlatDataAndDimensions(d.U, d.FanOut, d.Rank), tensors.FromFlatDataAndDimensions(d.V, d.FanIn, d.Rank)
			if err := optimizer.Protect(s.store, d.Layer, u, v); err != nil {
				return fmt.Errorf("protect %s: %w", dir, err)
			}
			protected++
		}
		switch {
		case len(layers) == 0:
			return fmt.Errorf("protect %s: the adapter changes nothing: there is nothing to protect", dir)
		case protected == 0:
			return fmt.Errorf("protect %s: none of its layers is trained here (%s): there is nothing to protect", dir, strings.Join(shortened(names, 3), ", "))
		}
	}
	return nil
}

// shortened returns the first count of the names, and how many there are besides.
func shortened(names []string, count int) []string {
	if len(names) <= count {
		return names
	}
	return append(names[:count:count], fmt.Sprintf("%d more", len(names)-count))
}

// planProtected says how much of the weights the optimizer leaves as it is.
func (s *Session) planProtected(note func(string, ...any)) {
	layers, directions := 0, 0
	for _, layer := range s.adapted() {
		if left, _ := optimizer.Protected(s.store, layer.Name); left > 0 {
			layers, directions = layers+1, directions+left
		}
	}
	if layers > 0 {
		note("protected: %d of %d layers keep what their weights do between the directions of earlier adapters (%d in all)", layers, len(s.adapted()), directions)
	}
}
