package adapter

import (
	"errors"

	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/param"
)

// Options are the inputs of New that are not configuration.
type Options struct {
	// Gradients holds, for Init "gradient", the full gradient ∇_W f of each target by layer name, [fan-out, fan-in]
	// row-major. The run computes them from its first batches with the base weights trainable.
	Gradients map[string][]float32
}

// Set is the low-rank pairs of a model and where they are in the store.
type Set struct{}

// Norm says how large a layer's pair is. All are spectral norms.
type Norm struct {
	Layer         string
	FanOut, FanIn int
	// Delta is ‖ΔW‖ = ‖s(A Bᵀ - A0 B0ᵀ)‖, the change of the weight since the start.
	Delta float64
	// A and B are ‖A‖ and ‖B‖, and Balance is ‖A‖/‖B‖ (infinite while B is zero).
	A, B, Balance float64
}

var errTODO = errors.New("not yet")

// New selects the targets among all layers of the model, makes their factors and adjusts the frozen weights in place.
func New(store *mlmodel.Store, layers []param.Layer, cfg Config, opts Options) (*Set, error) { return nil, errTODO }

// Attach creates the variables of New without initialising them, for a checkpoint to restore; then call AdjustBase.
func Attach(store *mlmodel.Store, layers []param.Layer, cfg Config) (*Set, error) { return nil, errTODO }

// AdjustBase subtracts s·A0 B0ᵀ from the frozen weights in the store, after Attach and restoring.
func (s *Set) AdjustBase() error { return errTODO }

// PairsConfig describes low-rank weights from scratch.
type PairsConfig struct {
	Rank int
	Seed int64
	// Rescale is c: A·c and B/c at the start. Zero means 1.
	Rescale float64
	// InitScale is the RMS→RMS norm of A Bᵀ at the start. Zero means 1.
	InitScale float64
	// Targets as in Config.
	Targets []string
}

// NewPairs makes low-rank weights from scratch, W = A Bᵀ with no base and s = 1.
func NewPairs(store *mlmodel.Store, layers []param.Layer, cfg PairsConfig) (*Set, error) { return nil, errTODO }

// AttachPairs is Attach for NewPairs.
func AttachPairs(store *mlmodel.Store, layers []param.Layer, cfg PairsConfig) (*Set, error) { return nil, errTODO }

// FromPEFT puts a loaded adapter on the model.
func FromPEFT(store *mlmodel.Store, layers []param.Layer, a *peft.Adapter) (*Set, error) { return nil, errTODO }

// Layers returns the adapted layers.
func (s *Set) Layers() []param.Layer { return nil }

// Variables returns the paths of the variables that a checkpoint of the set must hold.
func (s *Set) Variables() []string { return nil }

// Linear returns the linear function of the adapted model.
func (s *Set) Linear(store *mlmodel.Store) param.Linear { return nil }

// Export returns the trained pairs.
func (s *Set) Export() ([]peft.Pair, error) { return nil, errTODO }

// Adapter returns Export as an adapter of the base model ready for peft.Save.
func (s *Set) Adapter(base string) (*peft.Adapter, error) { return nil, errTODO }

// Norms returns the norms of every pair.
func (s *Set) Norms() ([]Norm, error) { return nil, errTODO }

// Merge folds the pairs into the store's weights and removes them.
func (s *Set) Merge() error { return errTODO }
