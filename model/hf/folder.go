package hf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/internal/safetensors"
	"github.com/polargo/polar/model"
)

// The names of a Hugging Face folder's weights.
const (
	weightsFile = "model.safetensors"
	indexFile   = "model.safetensors.index.json"
)

// folder is the source of a Hugging Face folder: one or more safetensors files.
type folder struct {
	files []*safetensors.File
	where map[string]*safetensors.File
}

func openFolder(dir string) (*folder, error) {
	f := &folder{where: map[string]*safetensors.File{}}
	shards, index, err := shardNames(dir)
	if err != nil {
		return nil, err
	}
	for _, shard := range shards {
		if err := f.add(filepath.Join(dir, shard)); err != nil {
			f.close()
			return nil, err
		}
	}
	var lost []string
	for _, name := range slices.Sorted(maps.Keys(index)) {
		if f.where[name] == nil {
			lost = append(lost, fmt.Sprintf("%s (in %s)", name, index[name]))
		}
	}
	if len(lost) > 0 {
		f.close()
		return nil, fmt.Errorf("%s lists %d tensors that the files do not hold: %s", indexFile, len(lost), listed(lost))
	}
	return f, nil
}

// shardNames returns the weight files of a folder and, where it is sharded, the index from tensor to file.
func shardNames(dir string) (files []string, index map[string]string, err error) {
	if _, err := os.Stat(filepath.Join(dir, weightsFile)); err == nil {
		return []string{weightsFile}, nil, nil
	}
	path := filepath.Join(dir, indexFile)
	text, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, missingWeights(dir)
	} else if err != nil {
		return nil, nil, err
	}
	var parsed struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(text, &parsed); err != nil || len(parsed.WeightMap) == 0 {
		return nil, nil, fmt.Errorf("%s: not valid JSON with a weight_map", path)
	}
	seen := map[string]bool{}
	for _, file := range parsed.WeightMap {
		if filepath.Base(file) != file || !filepath.IsLocal(file) {
			return nil, nil, fmt.Errorf("%s: shard name %q leaves the folder", path, file)
		}
		seen[file] = true
	}
	files = slices.Sorted(maps.Keys(seen))
	var absent []string
	for _, file := range files {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			absent = append(absent, file)
		}
	}
	if len(absent) > 0 {
		return nil, nil, fmt.Errorf("%s lists %d shards that are missing: %s", path, len(absent), listed(absent))
	}
	return files, parsed.WeightMap, nil
}

func missingWeights(dir string) error {
	if other, _ := filepath.Glob(filepath.Join(dir, "*.bin")); len(other) > 0 {
		return fmt.Errorf("the folder has no %s, only %s: convert it to safetensors first (transformers' save_pretrained does)", weightsFile, filepath.Base(other[0]))
	}
	return fmt.Errorf("the folder has no %s and no %s", weightsFile, indexFile)
}

func (f *folder) add(path string) error {
	file, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	f.files = append(f.files, file)
	for _, name := range file.Names() {
		if f.where[name] != nil {
			return fmt.Errorf("%s: tensor %q is also in another file", path, name)
		}
		f.where[name] = file
	}
	return nil
}

// find knows checkpoints of the bare model too, whose names lack the "model." or "transformer." before them.
func (f *folder) find(p model.Tensor) (located, bool) {
	name := p.Name
	file := f.where[name]
	if file == nil {
		for _, prefix := range []string{"model.", "transformer."} {
			if bare, ok := strings.CutPrefix(p.Name, prefix); ok && f.where[bare] != nil {
				name, file = bare, f.where[bare]
			}
		}
	}
	if file == nil {
		return located{}, false
	}
	_, shape, _ := file.Info(name)
	want := slices.Clone(p.Shape)
	if p.Conv1D {
		slices.Reverse(want)
	}
	return located{name: name, shape: shape, want: want}, true
}

func (f *folder) names() []string { return slices.Sorted(maps.Keys(f.where)) }

func (f *folder) read(at located, p model.Tensor, backend compute.Backend) (*tensors.Tensor, error) {
	value, err := newTensor(backend, p.Shape)
	if err != nil {
		return nil, err
	}
	var inner error
	err = tensors.MutableFlatData(value, func(flat []float32) {
		if inner = f.where[at.name].ReadFloat32(at.name, flat); inner == nil && p.Conv1D {
			transpose(flat, at.shape[0], at.shape[1])
		}
	})
	return value, errors.Join(err, inner)
}

func (f *folder) close() {
	for _, file := range f.files {
		_ = file.Close()
	}
}
