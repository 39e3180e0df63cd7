"""What of pymilvus is used, imported here alone.

When it is imported, pymilvus reads `MILVUS_URI` and accepts nothing but a server's address. Ours may also be the path
of a `.db` file, and what is neither deserves a sentence; so pymilvus does not get to see it.
"""

from __future__ import annotations

import os

_uri = os.environ.get("MILVUS_URI")
os.environ["MILVUS_URI"] = ""
try:
    from pymilvus import AnnSearchRequest as AnnSearchRequest
    from pymilvus import DataType as DataType
    from pymilvus import MilvusClient as MilvusClient
    from pymilvus import MilvusException as MilvusException
    from pymilvus import RRFRanker as RRFRanker
    from pymilvus import WeightedRanker as WeightedRanker
    from pymilvus.client.types import LoadState as LoadState
    from pymilvus.exceptions import ConnectionConfigException as ConnectionConfigException
    from pymilvus.exceptions import ErrorCode as ErrorCode
finally:
    if _uri is None:
        del os.environ["MILVUS_URI"]
    else:
        os.environ["MILVUS_URI"] = _uri
