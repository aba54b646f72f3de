package run

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/atomicfile"
	"github.com/polargo/polar/internal/safetensors"
)

// A checkpoint is a folder checkpoints/step-NNNNNNNN with state.safetensors (every variable that is not a frozen base
// weight) and state.json. The folder takes its name only when both are on disk, and state.json carries the checksum of
// the other, so that a folder with the right name is either whole or recognised as damaged.

// state is what a run remembers beside its variables.
type state struct {
	Version   int     `json:"version"`
	Step      int     `json:"step"`
	Tokens    int64   `json:"tokens"`
	Evaluated int     `json:"evaluated"` // step of the last evaluation; -1 before the first
	StartLoss measure `json:"start_loss"`
	BestLoss  measure `json:"best_loss"`
	BestStep  int     `json:"best_step"`
	SinceBest int     `json:"evaluations_since_best"`
	LastLoss  measure `json:"last_validation_loss"`
	Identity  string  `json:"identity"`   // hash of the settings that decide the path of the weights
	DataHash  string  `json:"data_hash"`  // chained hash of every batch trained on, in order
	Weights   string  `json:"weights"`    // hash of the trained variables
	Optimizer string  `json:"optimizer"`  // hash of the optimizer's variables
	StateHash string  `json:"state_hash"` // sha256 of state.safetensors
}

// newState is the state before the first step.
func newState(identity string) state {
	none := measure(math.NaN())
	return state{Version: stateVersion, Identity: identity, Evaluated: -1, StartLoss: none, BestLoss: none, LastLoss: none}
}

// measure is a number that may be missing: NaN and infinities, for which JSON has no form, are written as null, and null
// reads as NaN.
type measure float64

// MarshalJSON writes the number or null.
func (m measure) MarshalJSON() ([]byte, error) {
	if !finite(float64(m)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(m))
}

// UnmarshalJSON reads a number or null.
func (m *measure) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*m = measure(math.NaN())
		return nil
	}
	return json.Unmarshal(text, (*float64)(m))
}

const (
	stateVersion    = 1
	stateFile       = "state.json"
	variablesFile   = "state.safetensors"
	checkpointsName = "checkpoints"
	stepPrefix      = "step-"
)

// dtypeNames maps GoMLX's types to the names of the safetensors format.
var dtypeNames = map[dtypes.DType]string{
	dtypes.Float32: "F32", dtypes.Float64: "F64", dtypes.BFloat16: "BF16", dtypes.Float16: "F16", dtypes.Int64: "I64",
	dtypes.Int32: "I32", dtypes.Uint64: "U64", dtypes.Uint32: "U32", dtypes.Uint8: "U8", dtypes.Bool: "BOOL",
}

func checkpointName(step int) string { return fmt.Sprintf("%s%08d", stepPrefix, step) }

// variableSources lists the variables as tensors of a file, named by their path.
func variableSources(variables []*mlmodel.Variable) ([]safetensors.Source, error) {
	sources := make([]safetensors.Source, 0, len(variables))
	for _, v := range variables {
		name, ok := dtypeNames[v.DType()]
		if !ok {
			return nil, fmt.Errorf("variable %s has type %s, which checkpoints cannot hold", v.Path(), v.DType())
		}
		sources = append(sources, safetensors.Source{
			Name: v.Path(), DType: name, Shape: v.Shape().Dimensions,
			Load: func() ([]byte, error) { return variableBytes(v) },
		})
	}
	return sources, nil
}

func variableBytes(v *mlmodel.Variable) (out []byte, err error) {
	value, err := v.Value()
	if err != nil {
		return nil, err
	}
	err = value.ConstBytes(func(data []byte) { out = slices.Clone(data) })
	return out, err
}

// hashVariables returns a hash of the variables' paths and bytes, in order of path.
func hashVariables(variables []*mlmodel.Variable) (string, error) {
	sorted := slices.SortedFunc(slices.Values(variables), func(a, b *mlmodel.Variable) int { return strings.Compare(a.Path(), b.Path()) })
	h := sha256.New()
	for _, v := range sorted {
		data, err := variableBytes(v)
		if err != nil {
			return "", err
		}
		_, _ = fmt.Fprintf(h, "%s %s\n", v.Path(), v.Shape())
		_, _ = h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// writeCheckpoint writes st and the variables as checkpoints/step-N of the run folder and returns its path. On error
// (a full disk, say) every earlier checkpoint is as it was.
func writeCheckpoint(folder string, st state, variables []*mlmodel.Variable) (string, error) {
	path := filepath.Join(folder, checkpointsName, checkpointName(st.Step))
	err := atomicfile.WriteFolder(path, func(dir string) error {
		sources, err := variableSources(variables)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, variablesFile)
		if err := safetensors.WriteSources(file, sources, map[string]string{"format": "polar"}); err != nil {
			return err
		}
		if st.StateHash, err = atomicfile.SHA256(file); err != nil {
			return err
		}
		text, err := json.MarshalIndent(st, "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, stateFile), append(text, '\n'), 0o644)
	})
	if err != nil {
		return "", fmt.Errorf("save checkpoint: %w", err)
	}
	return path, nil
}

// readState reads and checks a checkpoint's description, its checksum included.
func readState(path string) (state, error) {
	var st state
	text, err := os.ReadFile(filepath.Join(path, stateFile))
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(text, &st); err != nil {
		return st, fmt.Errorf("%s: %w", filepath.Join(path, stateFile), err)
	}
	if st.Version != stateVersion {
		return st, fmt.Errorf("%s: version %d, this program reads version %d", path, st.Version, stateVersion)
	}
	hash, err := atomicfile.SHA256(filepath.Join(path, variablesFile))
	if err != nil {
		return st, err
	}
	if hash != st.StateHash {
		return st, fmt.Errorf("%s: damaged (its checksum differs)", path)
	}
	return st, nil
}

// listCheckpoints returns the checkpoint folders of a run, newest first. It finishes what a killed writer left.
func listCheckpoints(folder string) ([]string, error) {
	dir := filepath.Join(folder, checkpointsName)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Clean(dir); err != nil {
		return nil, err
	}
	var paths []string
	for _, entry := range entries {
		if entry.IsDir() && strings.HasPrefix(entry.Name(), stepPrefix) {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	slices.Sort(paths)
	slices.Reverse(paths)
	return paths, nil
}

// newestCheckpoint returns the newest checkpoint that reads well with at most maxStep steps (negative: any), noting the
// damaged ones it passed over. The path is empty when there is none.
func newestCheckpoint(folder string, maxStep int, note func(string)) (string, state, error) {
	paths, err := listCheckpoints(folder)
	if err != nil {
		return "", state{}, err
	}
	for _, path := range paths {
		st, err := readState(path)
		if err != nil {
			note(fmt.Sprintf("passing over a checkpoint that cannot be read: %v", err))
			continue
		}
		if maxStep < 0 || st.Step <= maxStep {
			return path, st, nil
		}
	}
	return "", state{}, nil
}

// pruneCheckpoints removes the checkpoints of a run but the two newest and the best.
func pruneCheckpoints(folder string, best int) error {
	paths, err := listCheckpoints(folder)
	if err != nil {
		return err
	}
	for i, path := range paths {
		if i >= 2 && filepath.Base(path) != checkpointName(best) {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}

// loadVariables sets the store's variables to the checkpoint's, creating those that graph building has not created yet.
// name gives the variable of a tensor, "" to leave it out.
func loadVariables(path string, store *mlmodel.Store, name func(string) string) error {
	file, err := safetensors.Open(filepath.Join(path, variablesFile))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	for _, saved := range file.Names() {
		variable := name(saved)
		if variable == "" {
			continue
		}
		t, err := file.Read(saved)
		if err != nil {
			return err
		}
		if err := setVariable(store, variable, t); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func setVariable(store *mlmodel.Store, path string, t safetensors.Tensor) error {
	dtype := dtypes.InvalidDType
	for candidate, name := range dtypeNames {
		if name == t.DType {
			dtype = candidate
		}
	}
	if dtype == dtypes.InvalidDType {
		return fmt.Errorf("variable %s has type %s, which checkpoints cannot hold", path, t.DType)
	}
	value := tensors.FromShape(shapes.Make(dtype, t.Shape...))
	if err := value.MutableBytes(func(data []byte) { copy(data, t.Data) }); err != nil {
		return fmt.Errorf("variable %s: %w", path, err)
	}
	v := store.GetVariable(path)
	if v == nil {
		store.VariableWithValue(path, value).SetTrainable(false)
		return nil
	}
	if !v.Shape().Equal(value.Shape()) {
		return fmt.Errorf("variable %s is %s in the checkpoint and %s in this run", path, value.Shape(), v.Shape())
	}
	return v.SetValue(value)
}
