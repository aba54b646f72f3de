package peft

import "errors"

// Save writes the adapter.
func Save(dir string, a *Adapter, extra map[string][]byte) error { return errors.New("not yet") }
