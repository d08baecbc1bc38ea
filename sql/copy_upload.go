package sql

import (
	"context"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// uploadTable is the table whose COPY makes a file in the node's own storage: the
// only column is the file's name, the data are its bytes.
const (
	uploadSchema = "crdb_internal"
	uploadTable  = "nodelocal_file_upload"
)

func isUpload(c *parser.Copy) bool {
	if c.Table == nil {
		return false
	}
	tn := c.Table.ToTableName()
	return tn.Schema() == uploadSchema && tn.Table() == uploadTable
}

// copyUpload keeps what the client sends as a file. All of it is there, or nothing.
func (p *planner) copyUpload(ctx context.Context, c *parser.Copy, res ResultWriter) error {
	if err := p.requireAdmin(ctx, "upload to nodelocal"); err != nil {
		return err
	}
	if len(c.Columns) != 1 {
		return pgerr.New(pgerr.InvalidParameterValue, "an upload names one file")
	}
	if p.srv.cfg.UploadFile == nil {
		return pgerr.New(pgerr.FeatureNotSupported, "this node has no storage for uploads").
			WithHint("Start it with --external-io-dir.")
	}
	data, err := res.StartCopyIn(ctx, true, 1)
	if err != nil {
		return err
	}
	in := &uploadReader{ctx: ctx, data: data}
	if err := p.srv.cfg.UploadFile(ctx, string(c.Columns[0]), in); err != nil {
		return err
	}
	res.Complete("UPLOAD")
	return nil
}

// uploadReader is COPY data as a stream.
type uploadReader struct {
	ctx  context.Context
	data CopyReader
	rest []byte
}

func (r *uploadReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		var err error
		if r.rest, err = r.data.Next(r.ctx); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
