UPDATE people SET first_name = 'Ada', status = 'won', updated_at = clock_timestamp() WHERE id = 1;
