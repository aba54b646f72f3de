package peft

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/polargo/polar/internal/safetensors"
)

// maxConfig bounds adapter_config.json; the largest in use are some kilobytes.
const maxConfig = 16 << 20

// Load reads a PEFT adapter folder, written here or by PEFT: plain LoRA on linear layers, with alpha/r or rsLoRA scales,
// rank and alpha patterns, F32, F16, BF16 or F64 tensors. Each pair carries its own scale.
//
// It returns one line for anything else: a missing or malformed file; DoRA, modules_to_save, biases and other parts that
// cannot be applied, by name; all tensors that are unexpected, missing their other half or of the wrong shape, together,
// with the shapes; NaN or infinite values. Whether the layers are the model's is checked when the adapter is applied.
func Load(dir string) (*Adapter, error) {
	a, err := load(dir)
	if err != nil {
		return nil, fmt.Errorf("load adapter %s: %w", dir, err)
	}
	return a, nil
}

func load(dir string) (*Adapter, error) {
	c, err := readConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	path := filepath.Join(dir, weightsFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "adapter_model.bin")); err == nil {
			return nil, fmt.Errorf("it has adapter_model.bin, a pickle that can run code; save it again with safe_serialization=True")
		}
		return nil, fmt.Errorf("it has no %s", weightsFile)
	}
	file, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	a := &Adapter{Rank: c.Rank, Alpha: c.Alpha, FanInFanOut: c.FanInFanOut, Targets: c.Targets.list, config: c}
	if c.Base != nil {
		a.Base = *c.Base
	}
	if a.Pairs, err = readPairs(file, c); err != nil {
		return nil, err
	}
	return a, a.Check()
}

func readConfig(dir string) (*config, error) {
	path := filepath.Join(dir, configFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no such file; a PEFT adapter folder has one")
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > maxConfig {
		return nil, fmt.Errorf("the file has %d bytes, want at most %d", info.Size(), maxConfig)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseConfig(data)
}

// loraKey splits a tensor's name into the layer and the factor's letter. PEFT leaves the adapter's name out when it
// saves; other tools keep "default".
var loraKey = regexp.MustCompile(`^(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight$`)

// halves are the tensors' names of one layer.
type halves struct{ a, b string }

// readPairs reads every tensor of the file into pairs, in order of the layers' names, or returns all that is wrong.
func readPairs(file *safetensors.File, c *config) ([]Pair, error) {
	layers := make(map[string]*halves)
	var problems []string
	for _, name := range file.Names() {
		match := loraKey.FindStringSubmatch(name)
		if match == nil {
			_, shape, _ := file.Info(name)
			problems = append(problems, fmt.Sprintf("unexpected tensor %q %v", name, shape))
			continue
		}
		if layers[match[1]] == nil {
			layers[match[1]] = new(halves)
		}
		half := &layers[match[1]].a
		if match[2] == "B" {
			half = &layers[match[1]].b
		}
		if *half != "" {
			problems = append(problems, fmt.Sprintf("tensors %q and %q are the same factor", *half, name))
		}
		*half = name
	}
	for _, layer := range sortedKeys(layers) {
		problems = append(problems, checkShapes(file, c, layer, layers[layer])...)
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		return nil, fmt.Errorf("%s: %s", weightsFile, strings.Join(problems, "; "))
	}
	var out []Pair
	for _, layer := range sortedKeys(layers) {
		p, err := readPair(file, c, layer, layers[layer])
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// checkShapes returns what is wrong with a layer's two tensors.
func checkShapes(file *safetensors.File, c *config, layer string, h *halves) []string {
	if h.a == "" || h.b == "" {
		missing := "lora_A"
		if h.b == "" {
			missing = "lora_B"
		}
		return []string{fmt.Sprintf("layer %s has no %s", layer, missing)}
	}
	_, shapeA, _ := file.Info(h.a)
	_, shapeB, _ := file.Info(h.b)
	rank := c.rank(layer)
	if len(shapeA) != 2 || len(shapeB) != 2 || shapeA[0] != rank || shapeB[1] != rank {
		return []string{fmt.Sprintf("layer %s: lora_A %v and lora_B %v, want [%d, fan-in] and [fan-out, %d] for rank %d", layer, shapeA, shapeB, rank, rank, rank)}
	}
	return nil
}

// readPair turns lora_B and lora_A into A and B.
func readPair(file *safetensors.File, c *config, layer string, h *halves) (Pair, error) {
	loraA, shape, err := file.Float32(h.a)
	if err != nil {
		return Pair{}, err
	}
	rank, fanIn := shape[0], shape[1]
	loraB, shape, err := file.Float32(h.b)
	if err != nil {
		return Pair{}, err
	}
	b := make([]float32, len(loraA))
	for k := range rank {
		for j := range fanIn {
			b[j*rank+k] = loraA[k*fanIn+j]
		}
	}
	return Pair{Layer: layer, FanOut: shape[0], FanIn: fanIn, Rank: rank, Scale: c.scale(layer), A: loraB, B: b}, nil
}

// Matches reports whether the adapter's target_modules, as loaded, ask for the layer of that name: a list of names and
// suffixes, one regular expression, or "all-linear". It is false where that cannot be told (layers_to_transform,
// expressions Go does not have) and for adapters that were not loaded.
func (a *Adapter) Matches(layer string) bool { return a.config != nil && a.config.matches(layer) }
