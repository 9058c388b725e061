UPDATE people SET company = 'Edited & Co', updated_at = clock_timestamp() WHERE id = 7;
