package hf

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"

	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/model"
)

// sampled is how many values of each tensor, evenly spaced, go into the fingerprint.
const sampled = 256

// Fingerprint returns a SHA-256 in hexadecimal of the configuration, every tensor's name and shape, and 256 evenly spaced
// values of each as float32. The same weights give the same fingerprint from any file format that keeps them exactly.
func Fingerprint(dec *model.Decoder, store *mlmodel.Store) (string, error) {
	hash := sha256.New()
	config, err := json.Marshal(dec.Config())
	if err != nil {
		return "", err
	}
	hash.Write(config)
	for _, p := range dec.Parameters() {
		fmt.Fprintf(hash, "%s %v\n", p.Name, p.Shape)
		value, err := parameter(store, p)
		if err != nil {
			return "", err
		}
		err = tensors.ConstFlatData(value, func(flat []float32) {
			count := min(sampled, len(flat))
			bytes := make([]byte, 0, 4*count)
			for i := range count {
				at := 0
				if count > 1 {
					at = int(int64(i) * int64(len(flat)-1) / int64(count-1))
				}
				bytes = binary.LittleEndian.AppendUint32(bytes, math.Float32bits(flat[at]))
			}
			hash.Write(bytes)
		})
		if err != nil {
			return "", fmt.Errorf("fingerprint of %s: %w", p.Name, err)
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// parameter returns the value of p in the store.
func parameter(store *mlmodel.Store, p model.Tensor) (*tensors.Tensor, error) {
	v := store.GetVariable(p.Path())
	if v == nil || !v.HasValue() {
		return nil, fmt.Errorf("the store has no value for parameter %s (%s)", p.Name, p.Path())
	}
	return v.Value()
}
