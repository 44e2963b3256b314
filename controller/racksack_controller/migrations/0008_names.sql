-- Fields of stored records that have got the names which the code uses.

UPDATE power SET record = CAST(json_remove(json_set(CAST(record AS TEXT),
    '$.seen_on', json(CASE json_type(CAST(record AS TEXT), '$.lit') WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE 'null' END),
    '$.request', coalesce(json_extract(CAST(record AS TEXT), '$.wish'), ''),
    '$.request_by', coalesce(json_extract(CAST(record AS TEXT), '$.wish_by'), '')
), '$.lit', '$.wish', '$.wish_by') AS BLOB);

UPDATE sweeps SET progress = CAST(json_remove(json_set(CAST(progress AS TEXT),
    '$.backoffs', json(coalesce(json_extract(CAST(progress AS TEXT), '$.rests'), '{}'))
), '$.rests') AS BLOB);
