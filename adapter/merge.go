package adapter

import (
	"fmt"

	"github.com/gomlx/gomlx/core/tensors"
)

// Merge adds s·A Bᵀ to every adapted weight in the store and deletes the factors: the store then holds an ordinary
// dense model. For weights from scratch it creates the dense weights W = A Bᵀ. The set is of no further use; its Linear
// is the plain product. Weights that would not be finite are an error naming the layer, after which the store may hold a
// mixture.
func (s *Set) Merge() error {
	store := s.store
	if err := s.usable(); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	if s.scratch {
		for _, p := range s.pairs {
			data := make([]float32, p.layer.FanOut*p.layer.FanIn)
			store.VariableWithValue(p.layer.Weight, tensors.FromFlatDataAndDimensions(data, p.layer.FanOut, p.layer.FanIn)).SetTrainable(false)
		}
	}
	if err := s.fold(store, "/adapter", 1); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	for _, path := range s.Variables() {
		if err := store.DeleteVariable(path); err != nil {
			return fmt.Errorf("merge: delete %s: %w", path, err)
		}
	}
	s.merged = true
	return nil
}
