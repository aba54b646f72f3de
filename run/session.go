package run

import "context"

// Session is a prepared run.
type Session struct {
	Config Config // resolved
	Plan   Plan
}

// Prepare loads the model, opens the data, attaches the adapter and builds the plan. It trains nothing and writes nothing
// but caches.
func Prepare(ctx context.Context, cfg Config, sink Sink) (*Session, error) { return nil, nil }

// Run trains, exports and verifies the export.
func (s *Session) Run(ctx context.Context) (*Result, error) { return nil, nil }

// Close releases the model and the data.
func (s *Session) Close() error { return nil }
